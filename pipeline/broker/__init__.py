"""The broker: Dramatiq's interface on one side, the store on the other."""

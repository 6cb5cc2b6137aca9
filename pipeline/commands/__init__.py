"""What an operator or an application can do to tasks, one file and one transaction each."""

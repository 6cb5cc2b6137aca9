"""``pipeline worker``: a master and its worker processes.

Dramatiq's own command line stops every process when one of them dies. Here a dead process is replaced alone::

    master.py    starts the processes, replaces the dead, passes a stop on
    child.py     one worker process: the main program of what the master starts
    plan.py      what a worker process shall do, as its command line
    ledger.py    what the master says to the database about processes that are gone
    teller.py    what runs where, written into the database
    orphans.py   processes that were left behind, for process 1
    report.py    what a process tells its master: that it works, and as which worker
    signals.py   signals as something to wait for
"""

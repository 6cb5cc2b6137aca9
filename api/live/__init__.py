"""Live views: what clients are told as it happens, over HTTP.

One thread of a web process asks the database about once a second for everybody who watches (``listener``), compares the
answer with the one before (``overview``, ``changes``), and puts what is new into the queue of each client
(``subscription``). A client's own thread only carries its queue to the socket (``stream``), or waits for one change
(``waiting``). So any number of clients costs one session of the database, and none is held while a client reads.

What is told are states, not a log of what happened: whoever misses one gets the next.
"""

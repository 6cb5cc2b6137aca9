"""One module per noun, one function per named statement: cursor in, plain values or frozen rows out.

Functions take the statements of their schema (``sql``) and a cursor; whoever calls them owns the transaction.
"""

"""One file per kind of backend. Sans I/O: no socket, clock, randomness or log; values in, events out."""

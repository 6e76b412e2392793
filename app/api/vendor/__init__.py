"""The vendors' own APIs, served: for clients that were written for them and are pointed at this gateway."""

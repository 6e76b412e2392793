"""The only I/O towards backends. A library's exceptions end here: everything raised is a `BackendError`."""

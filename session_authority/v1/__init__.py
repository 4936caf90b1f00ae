"""The public contract's generated stubs. See `protos/session_authority/v1`."""

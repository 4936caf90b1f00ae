"""The servers that the service is compared with. Each is as small as people would write it."""

"""The servers that the service is compared with, each as small as people would write it."""

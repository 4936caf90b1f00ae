"""Converts messages of the gRPC protocol between Envoy and the gateway: the requests and responses
of `envoy.service.auth.v3.Authorization/Check`.

This package decides nothing about a request, and runs no gRPC server.
"""

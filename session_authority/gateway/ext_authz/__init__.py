"""Owns how the gateway speaks to Envoy: what `envoy.service.auth.v3.Authorization/Check` asks and
answers. It decides nothing about a request, and knows no server of gRPC.
"""

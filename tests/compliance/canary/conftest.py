from tests.compliance.canary.support import service

__all__ = ["service"]

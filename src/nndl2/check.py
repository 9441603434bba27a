"""`check("vae.py")`: points and diagnoses for a solution of the assignment, in a notebook or a script."""

from vaekit.teaching import Report, check

__all__ = ["Report", "check"]

"""Code that runs inside the sandbox: standard library only, started by `python -I -S`, relative imports only."""

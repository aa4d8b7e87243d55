"""getm in the interfaces of other packages, a module for each; what it needs is an extra of the same name."""

"""What is read from real files, with which geometry and values, and what is refused and why: the tables of shared/data/README.md."""

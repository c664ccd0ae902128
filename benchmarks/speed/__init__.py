"""How fast fits are, beside other programs and beside what the machine can do: `python -m speed`."""

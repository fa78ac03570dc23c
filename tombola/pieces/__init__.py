"""Pure functions of values, one published idea a file. A method is a composition of these."""

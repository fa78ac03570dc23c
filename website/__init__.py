"""What the documentation's site shows that nobody writes by hand: made from the package itself."""

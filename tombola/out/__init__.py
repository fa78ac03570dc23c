"""What people see and take away: tables, progress, exported models."""

"""Staff: how they log in, with a password and a second factor, and who is kept out."""

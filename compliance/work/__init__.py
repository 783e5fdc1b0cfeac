"""What the workers do: who takes which requests, in which order, and what becomes of them."""

"""What goes by time: which rows and objects have had theirs, and the sweep that removes them."""

"""Patterns of strings in calls, with what each allows in words: an error does not show a pattern."""

# What a client may name a request by. Compared whole.
REFERENCE = r"^[A-Za-z0-9._:-]{1,64}$"
WITHOUT_NUL = r"^[^\x00]*$"

# "Must be " and these.
RULES = {
    REFERENCE: "1 to 64 characters: letters A to Z and a to z, digits, and . _ : -",
    WITHOUT_NUL: "free of the character NUL.",
}

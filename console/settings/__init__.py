"""User data settings: all that is set up of one chatbot, on one page, and a small action for each save.

The page stands in the highest app, for it shows what all three know: the chatbot's set-up, how many conversations
carry each UCI, and the calls that file requests.
"""

"""The pages of legal holds, for officers: the list, placing one after its preview, and a hold with its decisions."""

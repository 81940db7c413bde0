"""How much a folder of cases shows: faulty functions that it has to catch, right ones that it must not.

The share of the faulty ones that some case catches is the mutation score; it says what the cases are worth,
whichever frameworks are installed.
"""

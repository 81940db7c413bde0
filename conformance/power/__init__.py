"""Measures of the suite itself: faulty implementations that it must catch, and the tests of other projects."""

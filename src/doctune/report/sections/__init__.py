"""The sections of the pages, a folder for each page."""

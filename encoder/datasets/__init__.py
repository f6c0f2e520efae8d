"""One table of images, one strict checker, and a reader for each layout."""

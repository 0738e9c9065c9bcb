"""From the user's file to prepared rows on disk: read, canonical, split, mixed, found again by number."""

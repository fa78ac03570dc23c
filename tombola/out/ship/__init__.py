"""Models for use elsewhere, checked on the exported file itself."""

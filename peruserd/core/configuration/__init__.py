"""The configuration: its types, and how it is read, checked and explained."""

"""The live registration service: the app and billing, each a process of its own."""

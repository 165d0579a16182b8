"""The routes of the API: session, cameras, events, system."""

"""The Streamlit layer: session state, caches, widgets and the clickable plot."""

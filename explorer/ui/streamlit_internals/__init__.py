"""All that relies on more of Streamlit than it documents, one assumption or a few to a module.

Elsewhere in the app only `import streamlit as st` is to be found. `tests/unit/test_streamlit_internals.py` holds a test
for each assumption, which says in a sentence what a version of Streamlit does otherwise.
"""

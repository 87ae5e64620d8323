"""The page Try it: does the model still talk? Prompts and chats with the mask and without, side by side."""

from explorer.ui.shell.pages import Page
from explorer.ui.try_it.page import draw

PAGE = Page("pages/try_it.py", "Try it", ":material/chat:", draw=draw)

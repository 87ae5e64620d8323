"""What one browser session has chosen, made and asked for, and how links and reloads find it again."""

from explorer.ui.session.requests import Setting
from explorer.ui.session.session import Bench
from explorer.ui.session.state import Widget

__all__ = ["Bench", "Setting", "Widget"]

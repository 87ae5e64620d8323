"""Write the generated parts of docs/ anew: `python -m scripts.docs`, as `make docs` does first.

A page of docs/ holds what is generated between `<!-- begin NAME -->` and `<!-- end NAME -->`; NAME is one of `PARTS`.
Pictures in `PICTURES` are generated whole, and so are the outputs of the notebook's cells.
"""

from scripts.docs.notebook import NOTEBOOK, executed
from scripts.docs.pages import DOCS, PICTURES, filled


def main() -> None:
    """Write what has changed, and say so."""
    wanted = {path: filled(path.read_text(encoding="utf-8")) for path in sorted(DOCS.glob("*.md"))}
    wanted |= {DOCS / name: make() for name, make in PICTURES.items()}
    wanted[NOTEBOOK] = executed(NOTEBOOK.read_text(encoding="utf-8"))
    for path, text in wanted.items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(path)


if __name__ == "__main__":
    main()

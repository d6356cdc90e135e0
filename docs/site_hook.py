"""What the site adds to docs/: pages of files that its pages link to, and the names of packages.

On a code host the links of docs/ lead to sources, results and recipes beside it. The site is made
of the same pages; here every file that they link to, and every results file of benchmarks/,
becomes a page of the site under ``files/``, and the links are turned to it. Markdown stays as it
is; a source file is shown as it is written; a folder is the list of its files.

On the pages of the API ``::: crosstok.PACKAGE`` stands for every public name of the package.
"""

import ast
import os
import re
from functools import partial
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
_LINK = re.compile(r"(?<=\]\()(?!\w+:)([^)#\s]+)(?=[)#])")
_PACKAGE = re.compile(r"^::: crosstok\.(\w+)$(?!\n    )", re.MULTILINE)
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_NOT_SEARCHED = "---\nsearch:\n  exclude: true\n---\n\n"
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".mjs": "javascript", ".toml": "toml"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The results files stand in the navigation, below the page that says what they answer."""
    results: list[Any] = next(entry["Results"] for entry in config.nav if "Results" in entry)
    results += [page_of(file) for file in results_files()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for every file that can be reached by links from docs/."""
    docs = [Path(file.abs_src_path) for file in files.documentation_pages()]
    seen = set(docs)
    to_read = docs + results_files()
    while to_read:
        path = to_read.pop()
        if path not in seen:
            seen.add(path)
            files.append(File.generated(config, page_of(path), content=content_of(path)))
        if path.suffix == ".md":
            to_read += [target for target in linked_files(path) if target not in seen]
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links that leave docs/ lead to the pages made of their targets."""
    source = repository_path(page.file.src_uri)
    if source.suffix != ".md":
        return markdown
    here = Path(page.file.src_uri).parent
    if page.file.src_uri.startswith("api/"):
        markdown = _PACKAGE.sub(lambda match: directives(match[1]), markdown)
    return outside_of_code(markdown, partial(_LINK.sub, partial(relinked, source, here)))


def results_files() -> list[Path]:
    """Of the scripts in benchmarks/."""
    return sorted((ROOT / "benchmarks").glob("*.md"))


def linked_files(page: Path) -> list[Path]:
    """Files and folders of the repository that a page links to."""
    text = _FENCED.sub("", page.read_text(encoding="utf-8"))
    targets = [(page.parent / link).resolve() for link in _LINK.findall(text)]
    return [target for target in targets if target.exists() and is_added(target)]


def is_added(path: Path) -> bool:
    """Whether a file is made a page: it is not in docs/, where mkdocs finds it."""
    return path.is_relative_to(ROOT) and (path.is_dir() or not path.is_relative_to(ROOT / "docs"))


def page_of(path: Path) -> str:
    """Where in docs/ the page of a file would lie."""
    inside = path.relative_to(ROOT)
    if path.is_dir():
        return f"files/{inside}/index.md"
    return f"files/{inside}" if path.suffix == ".md" else f"files/{inside}.md"


def repository_path(src_uri: str) -> Path:
    """The file that a page is made of."""
    if not src_uri.startswith("files/"):
        return ROOT / "docs" / src_uri
    path = ROOT / src_uri.removeprefix("files/")
    return path if path.exists() else path.with_suffix("")


def content_of(path: Path) -> str:
    """A file as a page."""
    name = path.relative_to(ROOT)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in (".md", *_LANGUAGES))
        return f"# {name}\n\n" + "".join(f"- `{file.name}`\n" for file in files)
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return text
    language = _LANGUAGES.get(path.suffix, "text")
    return f"{_NOT_SEARCHED}# {path.name}\n\n`{name}`\n\n````{language}\n{text}````\n"


def relinked(source: Path, here: Path, link: re.Match[str]) -> str:
    """A link as the site has it."""
    target = (source.parent / link[1]).resolve()
    if not target.exists() or not target.is_relative_to(ROOT):
        return link[1]
    in_docs = target.is_relative_to(ROOT / "docs") and not target.is_dir()
    uri = str(target.relative_to(ROOT / "docs")) if in_docs else page_of(target)
    return os.path.relpath(uri, here).replace(os.sep, "/")


def directives(package: str) -> str:
    """The directives of mkdocstrings for a package: its public names where they are defined.

    Named one by one, because a function may have the name of its module, which would hide it. A
    package that imports on demand has its imports under ``if TYPE_CHECKING``.
    """
    tree = ast.parse((ROOT / "src" / "crosstok" / package / "__init__.py").read_text("utf-8"))
    imported = [
        (node.module, name.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("crosstok.")
        for name in node.names
    ]
    shown = []
    for module, name in imported:
        home = module.split(".")[1]
        of_another = f"`{name}` is that of [crosstok.{home}]({home}.md#{module}.{name})."
        shown.append(f"::: {module}.{name}" if home == package else of_another)
    return "\n\n".join(shown)


def outside_of_code(markdown: str, change: Any) -> str:
    """Apply a change to all but the fenced blocks."""
    parts, last = [], 0
    for block in _FENCED.finditer(markdown):
        parts += [change(markdown[last : block.start()]), block[0]]
        last = block.end()
    return "".join([*parts, change(markdown[last:])])

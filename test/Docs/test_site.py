"""The site of docs/ as utils/docs-site/build makes it: nothing that it links to is missing."""

import html.parser
import os
import pathlib
import re
import subprocess
import tempfile
import unittest
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
REFERENCE = pathlib.Path(os.environ["TOMBOLO_REFERENCE"])


class Page(html.parser.HTMLParser):
    """What a page links to, what it loads, and what can be linked to in it."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loads, self.anchors, self.words = [], [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.anchors.update(filter(None, (given.get("id"), given.get("name") if tag == "a" else None)))
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") != "canonical" and given.get("href"):
            self.loads.append(given["href"])
        elif given.get("src"):
            self.loads.append(given["src"])

    def handle_data(self, data):
        self.words.append(data)


class Site(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="tombolo-site-")
        cls.addClassCleanup(folder.cleanup)
        result = subprocess.run([ROOT / "utils/docs-site/build", REFERENCE, folder.name],
                                capture_output=True, text=True, timeout=240)
        if result.returncode != 0:
            raise AssertionError(result.stdout + result.stderr)
        cls.html = pathlib.Path(folder.name, "html")
        # Of the theme's page for addresses that there are not, links begin at the server's root.
        cls.pages = {path: Page(path.read_text()) for path in cls.html.rglob("*.html")
                     if path.name != "404.html"}

    def named(self, path, link):
        """The file, and the anchor in it, that a link of a page means."""
        link = urllib.parse.urlsplit(link)
        target = path if not link.path else pathlib.Path(
            os.path.normpath(path.parent / urllib.parse.unquote(link.path)))
        return target / "index.html" if target.is_dir() else target, urllib.parse.unquote(link.fragment)

    def test_no_link_is_dead(self):
        dead, seen = [], 0
        for path, page in self.pages.items():
            for link in page.links + page.loads:
                if re.match(r"[a-z]+:|//", link):
                    continue
                seen += 1
                target, anchor = self.named(path, link)
                where = f"{path.relative_to(self.html)}: {link}"
                if not target.is_file():
                    dead.append(where)
                elif anchor and target in self.pages and anchor not in self.pages[target].anchors:
                    dead.append(where)
        self.assertEqual(dead, [])
        self.assertGreater(seen, 1000)

    def test_nothing_is_asked_of_others(self):
        for path, page in self.pages.items():
            for link in page.loads:
                self.assertNotRegex(link, r"^([a-z]+:)?//", path)

    def test_all_pages_are_there_and_can_be_found(self):
        index = self.pages[self.html / "index.html"]
        linked = {self.named(self.html / "index.html", link)[0] for link in index.links
                  if not re.match(r"[a-z]+:", link)}
        for page in (ROOT / "docs").rglob("*.md"):
            built = (self.html / page.relative_to(ROOT / "docs")).with_suffix(".html")
            self.assertIn(built, linked)
        for page in REFERENCE.rglob("*.md"):
            built = (self.html / "Reference" / page.relative_to(REFERENCE)).with_suffix(".html")
            self.assertIn(built, linked)
        passes = "".join(self.pages[self.html / "Reference/Passes/DistPasses.html"].words)
        self.assertIn("dist-search-strategy", passes)

    def test_pictures_are_there(self):
        tutorial = self.pages[self.html / "Tutorial.html"]
        pictures = [link for link in tutorial.loads if link.endswith(".png")]
        self.assertGreaterEqual(len(pictures), 3)
        unused = {path.name for path in (ROOT / "docs/pictures").iterdir()}
        for page in self.pages.values():
            unused -= {pathlib.Path(link).name for link in page.loads}
        self.assertEqual(unused, set())


class Builder(unittest.TestCase):
    def test_a_dead_link_ends_the_build(self):
        """What it would say of a page that links to nothing."""
        with tempfile.TemporaryDirectory(prefix="tombolo-site-") as folder:
            reference = pathlib.Path(folder, "reference/Dialects")
            reference.mkdir(parents=True)
            (reference / "X.md").write_text("# X\n\n[gone](../no/such/file.md)\n")
            result = subprocess.run([ROOT / "utils/docs-site/build", reference.parent, folder + "/out"],
                                    capture_output=True, text=True)
            self.assertNotEqual(result.returncode, 0)
            self.assertIn("X.md: dead link '../no/such/file.md'", result.stderr)

    def test_says_what_to_build_first(self):
        with tempfile.TemporaryDirectory(prefix="tombolo-site-") as folder:
            result = subprocess.run([ROOT / "utils/docs-site/build", folder, folder],
                                    capture_output=True, text=True)
            self.assertNotEqual(result.returncode, 0)
            self.assertIn("build the target tombolo-docs first", result.stderr)

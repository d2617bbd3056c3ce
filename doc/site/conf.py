# Sphinx's configuration for the site that tools/docs makes of the pages.
import os
import re

here = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(here, '..', '..', 'eventstore.control'), encoding='utf-8') as control:
    release = re.search(r"^default_version = '(.*)'$", control.read(), re.M).group(1)
with open(os.path.join(here, '..', '..', 'LICENSE'), encoding='utf-8') as license_text:
    copyright = re.search(r'^Copyright \(c\) (.*)$', license_text.read(), re.M).group(1)

project = 'eventstore'
version = release
html_title = f'eventstore {release}'
extensions = ['myst_parser']
# Headings are known by the anchors that they have in the repository; tools/pages has looked.
myst_heading_anchors = 6
exclude_patterns = ['files']
highlight_language = 'none'
# An example may have "..." where it is cut; it is shown all the same.
suppress_warnings = ['misc.highlighting_failure']
pygments_style = 'tango'
pygments_dark_style = 'monokai'
# "--" are two hyphens: these pages have options in them.
smartquotes = False

html_theme = 'furo'
html_static_path = ['static']
html_css_files = ['site.css']
html_copy_source = False
html_show_sphinx = False

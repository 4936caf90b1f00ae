"""The site of the documentation: the build by mkdocs, and the checks of its result.

`hooks` runs inside mkdocs. `check` reads the built site and opens it in a browser.
"""

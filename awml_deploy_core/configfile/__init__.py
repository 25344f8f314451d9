"""A .py, .yaml, .toml or .json file, and whatever it inherits from, as one plain dict.

Both styles of mmengine's Python configs are read, without mmengine: the classic one (`_base_`, `_delete_`,
`{{ fileDirname }}`, `{{$NAME:default}}`, `{{ _base_.a.b }}`, `_base_.a.b`) and the new one (`with read_base():`).
Values are those that `mmengine.config.Config.fromfile(...).to_dict()` gives, down to tuple against list, except:

- A module outside the standard library and this package is never imported, in either style. What is taken from it
  stands in the result as its dotted name; calling it is an error. (mmengine imports it in the classic style.)
  The standard library is imported, also inside a virtual environment, where mmengine does not recognise it.
- A name that an import bound, a class, a function, and a top-level name with a leading underscore are usable by the
  files that inherit and do not stand in the result. (mmengine keeps some of them.)
- A `_delete_` that had nothing to delete does not stay behind as a key.
- Members of enums (also as keys), instances of attrs classes, paths and numpy scalars become plain; a value that
  cannot be plain (a set, an array, an open file) is an error that names its key.
- Variables are also filled in new-style files; styles may be mixed between files, though not within one.
- `{{ _base_.a }}` in a Python file is an expression, so it can be computed with; within quotes it is an error.
- YAML is read by a safe loader: tags that make objects are refused, a key given twice is an error, `1e-3` is a number
  and a date is text. JSON refuses a key given twice, NaN and Infinity. TOML can be used everywhere.
- `_base_ = "package::file"` and a relative import outside `with read_base():` are errors that say what to do instead.

Python configs run as code. Afterwards `sys.path`, the working directory and the modules that were loaded before are
as they were; modules of the standard library and of this package that the config imported stay loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from awml_deploy_core.configfile.edit import assign, merge
from awml_deploy_core.configfile.emit import dump_config
from awml_deploy_core.configfile.source import ConfigSource, read_config
from awml_deploy_core.errors import ConfigError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

__all__ = ["ConfigSource", "assign", "dump_config", "merge", "read_base", "read_config"]


def read_base() -> AbstractContextManager[None]:
    """Mark the imports of a Python config that name its bases.

    A config's reader recognises the `with read_base():` block and never calls this.

    Raises:
        ConfigError: Always, because it was called outside a config.
    """
    raise ConfigError(
        "read_base() was called outside a config file",
        hint="It only marks the imports of a config: read that file with `read_config`, do not import or run it",
    )

import pkgutil
import subprocess
import sys

from rlhf_trainer import data

MODULES = [module.name for module in pkgutil.iter_modules(data.__path__)]


def test_data_modules_are_found() -> None:
    assert {"check", "agreement", "prepared", "tokenise"} <= set(MODULES)


def test_data_modules_import_neither_torch_nor_transformers() -> None:
    imports = ", ".join(f"rlhf_trainer.data.{name}" for name in MODULES)
    code = (
        f"import sys; import {imports}; "
        "heavy = {'torch', 'transformers', 'datasets', 'pyarrow', 'jinja2'} & sys.modules.keys(); "
        "sys.exit(f'imports {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

import subprocess
import sys


def test_importing_it_tells_nobody():
    program = (
        "import sys; from convnext.graphs.untracked_openvino import ov\n"
        "print(*(name for name in sys.modules if name.startswith('openvino_telemetry')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == ""

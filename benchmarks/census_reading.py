"""Reading a national PUMS file: seconds and memory for read + join + weighted draw, beside pandas on the same files.

    python -m benchmarks.census_reading --person state_56_2018_full.csv.gz [--rows 3400000]

A real state's person CSV with all its columns (Wyoming 2018: 5,740 persons, 286 columns) is written again and again, households kept
together and with SERIALNOs of their own, until it has as many persons as the national file. As the Bureau ships it: two CSV files in
one zip. The housing zip is made up: one row a household and one vacant unit for every eight, 240 columns wide; only the columns that
the join takes have meaningful values, the others are cells of the household's first person. Both lie in a temporary folder (about
0.7 GB packed, 3.5 GB of text) that is removed at the end.

Then two fresh processes, one after the other, each read both files, join them and draw 1,586 adults by weight:
  ours    builder.census.pums.read_pums and builder.census.draw.draw_records
  pandas  read_csv with usecols and the same columns, merge, DataFrame.sample with weights
Printed: wall and CPU seconds, peak resident memory and rows a second of each, and the ratio of the two. The page cache is warm for both.
"""

import argparse
import gzip
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

DRAWN = 1_586
SEED = 0
HOUSING_COLUMNS = 240
Row = tuple[str, str, str]  # the line up to SERIALNO, HU or GQ, the line after SERIALNO
Household = list[Row]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--person", type=Path, help="a real PUMS person CSV of one state, .csv or .csv.gz")
    parser.add_argument("--rows", type=int, default=3_400_000, help="persons to write")
    parser.add_argument("--measure", nargs=3, metavar=("READER", "PERSON", "HOUSING"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        reader, person, housing = arguments.measure
        print(json.dumps(measure(reader, Path(person), Path(housing))))
        return
    if arguments.person is None:
        parser.error("--person is required")
    with tempfile.TemporaryDirectory(prefix="census-reading-") as folder:
        person, housing = Path(folder) / "csv_pus.zip", Path(folder) / "csv_hus.zip"
        rows, households = write_national_files(arguments.person, arguments.rows, person, housing)
        print(f"{rows:,} persons, {households:,} housing units, {packed_size(person, housing)}")
        results = {reader: in_fresh_process(reader, person, housing) for reader in ("ours", "pandas")}
    for reader, result in results.items():
        print(
            f"{reader:8}{result['wall_s']:8.1f} s wall {result['cpu_s']:8.1f} s CPU {result['peak_mib']:8.0f} MiB peak "
            f"{rows / result['wall_s']:12,.0f} rows/s   {result['steps']}"
        )
    ours, other = results["ours"], results["pandas"]
    print(
        f"pandas / ours: {other['wall_s'] / ours['wall_s']:.2f} x time, {other['peak_mib'] / ours['peak_mib']:.2f} x memory"
    )


def write_national_files(source: Path, rows: int, person: Path, housing: Path) -> tuple[int, int]:
    header, households = read_households(source)
    persons_each = sum(len(household) for household in households)
    replicas = -(-rows // persons_each)
    parts = [(0, replicas // 2), (replicas // 2, replicas)]
    with zipfile.ZipFile(person, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, (first, last) in zip(("psam_pusa.csv", "psam_pusb.csv"), parts, strict=True):
            with archive.open(name, "w", force_zip64=True) as stream:
                stream.write(f"{header}\n".encode())
                for replica in range(first, last):
                    stream.write(person_lines(households, replica).encode())
    units = 0
    with zipfile.ZipFile(housing, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, (first, last) in zip(("psam_husa.csv", "psam_husb.csv"), parts, strict=True):
            with archive.open(name, "w", force_zip64=True) as stream:
                stream.write(f"{housing_header()}\n".encode())
                for replica in range(first, last):
                    lines = list(housing_lines(households, replica))
                    units += len(lines)
                    stream.write("".join(lines).encode())
    return persons_each * replicas, units


def read_households(source: Path) -> tuple[str, list[Household]]:
    content = source.read_bytes()
    header, *lines = (gzip.decompress(content) if source.suffix == ".gz" else content).decode().splitlines()
    place = header.split(",").index("SERIALNO")

    def serial(line: str) -> str:
        return line.split(",", place + 1)[place]

    households = []
    for number, members in groupby(lines, key=serial):
        kind = "GQ" if "GQ" in number else "HU"
        households.append([(*re.split(rf"\b{number}\b", line, maxsplit=1), kind) for line in members])
    return header, [[(before, kind, after) for before, after, kind in household] for household in households]


def person_lines(households: list[Household], replica: int) -> str:
    first = replica * len(households)
    return "".join(
        f"{before}2018{kind}{first + number:07d}{after}\n"
        for number, household in enumerate(households)
        for before, kind, after in household
    )


def housing_header() -> str:
    named = ["RT", "SERIALNO", "ADJINC", "NP", "TYPE", "HHL", "HHT", "FPARC", "HUPAC"]
    return ",".join([*named, *(f"OTHER{i}" for i in range(HOUSING_COLUMNS - len(named)))])


def housing_lines(households: list[Household], replica: int) -> Iterator[str]:
    first = replica * len(households)
    for number, household in enumerate(households):
        _, kind, after = household[0]
        others = ",".join(after.split(",")[9 - HOUSING_COLUMNS :])
        # HHL, HHT, FPARC and HUPAC are blank in group quarters and vacant units, as in the Bureau's file.
        described = f"1,{number % 7 + 1},{number % 4 + 1},{number % 4 + 1}" if kind == "HU" else ",,,"
        yield f"H,2018{kind}{first + number:07d},1013097,{len(household)},{1 if kind == 'HU' else 3},{described},{others}\n"
        if number % 8 == 0:
            # Numbers of vacant units follow those of all households.
            yield f"H,2018HU{5_000_000 + first // 8 + replica + number // 8:07d},1013097,0,1,,,,,{others}\n"


def packed_size(*files: Path) -> str:
    packed = sum(file.stat().st_size for file in files)
    text = 0
    for file in files:
        with zipfile.ZipFile(file) as archive:
            text += sum(member.file_size for member in archive.infolist())
    return f"{text / 1e9:.2f} GB of text, {packed / 1e9:.2f} GB packed"


def in_fresh_process(reader: str, person: Path, housing: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.census_reading", "--measure", reader, str(person), str(housing)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def measure(reader: str, person: Path, housing: Path) -> dict[str, Any]:
    work = {"ours": read_and_draw, "pandas": read_and_draw_with_pandas}[reader]
    started, cpu = time.perf_counter(), time.process_time()
    steps = work(person, housing)
    return {
        "wall_s": time.perf_counter() - started,
        "cpu_s": time.process_time() - cpu,
        "peak_mib": peak_memory() / 2**20,
        "steps": steps,
    }


def peak_memory() -> int:
    """Bytes. Linux keeps the parent's peak in ru_maxrss of a child, so its own account of the process is asked first."""
    status = Path("/proc/self/status")
    if status.is_file():
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if found:
            return int(found.group(1)) * 1024
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes if sys.platform == "darwin" else kilobytes * 1024


def read_and_draw(person: Path, housing: Path) -> str:
    from builder.census.draw import draw_records
    from builder.census.pums import read_pums

    started = time.perf_counter()
    records = read_pums(person, housing)
    read = time.perf_counter()
    drawn, _ = draw_records(records, DRAWN, SEED, adults_only=True)
    assert drawn.num_rows == DRAWN
    return f"read and join {read - started:.1f} s, draw {time.perf_counter() - read:.1f} s"


def read_and_draw_with_pandas(person: Path, housing: Path) -> str:
    import pandas

    from builder.census import pums

    started = time.perf_counter()
    person_columns = {*pums.PERSON_COLUMNS, *pums.OPTIONAL_PERSON_COLUMNS, "ST", "RELP"}
    household_columns = {"SERIALNO", *pums.HOUSEHOLD_COLUMNS, *pums.OPTIONAL_HOUSEHOLD_COLUMNS, "TYPE"}

    def read(path: Path, columns: set[str]) -> Any:
        with zipfile.ZipFile(path) as archive:
            parts = [
                pandas.read_csv(archive.open(n), usecols=lambda c: c in columns) for n in sorted(archive.namelist())
            ]
        return pandas.concat(parts, ignore_index=True)

    persons = read(person, person_columns).merge(read(housing, household_columns), on="SERIALNO", validate="m:1")
    joined = time.perf_counter()
    adults = persons[persons.AGEP >= 18]
    drawn = adults.sample(DRAWN, weights="PWGTP", random_state=SEED)
    assert len(drawn) == DRAWN
    return f"read and join {joined - started:.1f} s, draw {time.perf_counter() - joined:.1f} s"


if __name__ == "__main__":
    main()

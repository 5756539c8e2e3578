"""What `persona publish` says at its end."""

from builder.publishing.publish import Published


def publishing_summary(published: Published, target: str, dry_run: bool) -> str:
    build = published.build
    rows = {config: sum(s["rows"] for s in splits.values()) for config, splits in build["configs"].items()}
    counts = ", ".join(f"{config} {number:,}" for config, number in rows.items())
    lines = [
        f"Version {build['version']}: {counts} rows, {sum(published.files.values()) / 1e6:,.1f} MB in {len(published.files)} files, "
        f"content {build['content_sha256'][:12]}."
    ]
    lines += [f"Warning: {warning}" for warning in published.warnings]
    if published.difference is not None:
        lines += [
            f"Since {build['changelog'][0]['previous']}: {change}." for change in build["changelog"][0]["changes"]
        ]
    if published.uploaded is not None:
        lines += published.uploaded.said
    if dry_run:
        lines.append(f"Nothing was written to {target}.")
    elif published.uploaded is None:
        lines.append(
            f'Dataset in {target}: load_dataset("{target}", "dpf"). Next: persona train dpo {target} --out MODEL_FOLDER'
        )
    return "\n".join(lines)

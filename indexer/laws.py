"""What must hold in the rows of a catalog, as SQL that finds what breaks it."""

from __future__ import annotations

NO_VECTOR = "reference {} lacks a vector by the embedder of its time"
TWICE = "reference {} is in the gallery twice"
NO_REFERENCES = "class {} has a name but no references"
GONE_ATTRIBUTES = "attributes {} are of a class or a reference that is gone"
BAD_FILE = "the file {} is remembered with neither a hash nor a reason"
BAD_THUMBNAIL = "the thumbnail of image {} is no JPEG"

# Each selects what must not be: the first column completes the sentence.
LAWS = {
    "the revisions are not numbered 1, 2, 3 without a gap up to {}": (  # from 1 on, or from where compact cut
        "SELECT max(id) FROM revisions HAVING count(*) > 0 AND max(id) - min(id) + 1 <> count(*)"
    ),
    "reference {} came or went in a revision that makes no sense": (
        'SELECT id FROM "references" WHERE came < (SELECT min(id) FROM revisions) OR went <= came'
        " OR max(came, coalesce(went, 0)) > (SELECT max(id) FROM revisions)"
    ),
    "name {} came or went in a revision that makes no sense": (
        "SELECT id FROM names WHERE came < (SELECT min(id) FROM revisions) OR went <= came"
        " OR max(came, coalesce(went, 0)) > (SELECT max(id) FROM revisions)"
    ),
    "upgrade {} came or went in a revision that makes no sense, or is not the only one": (
        "SELECT id FROM upgrades AS u WHERE came < (SELECT min(id) FROM revisions) OR went <= came"
        " OR max(came, coalesce(went, 0)) > (SELECT max(id) FROM revisions)"
        " OR EXISTS (SELECT 1 FROM upgrades AS o WHERE o.id <> u.id AND o.came <= u.came"
        " AND coalesce(o.went, u.came + 1) > u.came)"
    ),
    # At its coming, and whenever the embedder changed while it was there.
    NO_VECTOR: (
        "SELECT DISTINCT r.id FROM"
        ' (SELECT id, image_id, max(came, (SELECT min(id) FROM revisions)) AS at FROM "references" UNION ALL'
        ' SELECT r.id, r.image_id, t.at FROM "references" AS r'
        " JOIN (SELECT came AS at FROM upgrades UNION SELECT went FROM upgrades WHERE went IS NOT NULL) AS t"
        " ON t.at > r.came AND (r.went IS NULL OR r.went > t.at)) AS r"
        " WHERE NOT EXISTS (SELECT 1 FROM embeddings AS e WHERE e.image_id = r.image_id AND e.embedder_id = coalesce("
        "(SELECT embedder_id FROM upgrades AS u WHERE u.came <= r.at AND (u.went IS NULL OR u.went > r.at)),"
        " (SELECT min(id) FROM embedders)))"
    ),
    TWICE: ('SELECT max(id) FROM "references" WHERE went IS NULL GROUP BY class_id, image_id HAVING count(*) > 1'),
    "class {} has references but no name, or several names": (
        'SELECT class_id FROM (SELECT DISTINCT class_id FROM "references" WHERE went IS NULL) AS live'
        " WHERE (SELECT count(*) FROM names WHERE names.class_id = live.class_id AND names.went IS NULL) <> 1"
    ),
    NO_REFERENCES: (
        "SELECT class_id FROM names WHERE went IS NULL AND NOT EXISTS"
        ' (SELECT 1 FROM "references" AS r WHERE r.class_id = names.class_id AND r.went IS NULL)'
    ),
    "attributes {} came or went in a revision that makes no sense": (
        "SELECT id FROM attributes WHERE came < (SELECT min(id) FROM revisions) OR went <= came"
        " OR max(came, coalesce(went, 0)) > (SELECT max(id) FROM revisions)"
    ),
    "attributes {} are no JSON object": (
        "SELECT id FROM attributes WHERE NOT CASE WHEN json_valid(value) THEN json_type(value) = 'object' ELSE 0 END"
    ),
    GONE_ATTRIBUTES: (
        'SELECT id FROM attributes AS a WHERE went IS NULL AND NOT EXISTS (SELECT 1 FROM "references" AS r'
        " WHERE r.class_id = a.class_id AND r.image_id = coalesce(a.image_id, r.image_id) AND r.went IS NULL)"
    ),
    BAD_FILE: "SELECT path FROM files WHERE size < 0 OR (hash IS NULL AND reason IS NULL)",
    BAD_THUMBNAIL: "SELECT image_id FROM thumbnails WHERE substr(jpeg, 1, 2) <> x'FFD8'",
}

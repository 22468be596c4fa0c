"""What the services have in common: instances, volumes, their attachments, their quotas.

Everything belongs to a project, and nobody sees what another project has.  An instance is known
by its UUID, and to EC2 by its number (i-0000002a).
"""

import time
import uuid
from pathlib import Path

from nova_like.database import Database
from nova_like.faults import BadRequest, Conflict, NotFound, OverQuota

INSTANCE = """
    SELECT id, uuid, name, status, address, created FROM instances
"""
VOLUME = """
    SELECT volumes.id, volumes.uuid, volumes.name, size, device,
           instances.uuid AS server, instances.id AS instance
    FROM volumes LEFT JOIN attachments ON volume = volumes.id
                 LEFT JOIN instances ON instances.id = instance
"""


class Hypervisor:
    """Where instances run: whoever starts one waits for it."""

    def __init__(self, boot_time):
        self.boot_time = boot_time

    def boot(self, number):
        """The address of the instance, `boot_time` seconds later."""
        time.sleep(self.boot_time)
        return f"10.0.{number >> 8 & 255}.{number & 255}"


class Cloud:
    def __init__(self, conf):
        """`conf` are the variables of api-paste.ini."""
        self.database = Database(Path(conf["state_path"], "nova_like.sqlite"))
        self.hypervisor = Hypervisor(float(conf["hypervisor_boot_time"]))
        self.most_instances = int(conf["quota_instances"])
        self.most_gigabytes = int(conf["quota_gigabytes"])

    # -- instances ---------------------------------------------------------------------------
    def boot(self, project, name, metadata=None):
        """The new instance, running.  OverQuota."""
        with self.database.writing() as db:
            if self._instances(db, project) >= self.most_instances:
                raise OverQuota(f"The project has {self.most_instances} instances, and no more.")
            number = db.execute(
                "INSERT INTO instances (uuid, project, name, status) VALUES (?, ?, ?, 'BUILD')",
                (str(uuid.uuid4()), project, _text(name, "name"))).lastrowid
            self._describe(db, number, metadata or {})
        try:
            status, address = "ACTIVE", self.hypervisor.boot(number)
        except BaseException:
            self._set(number, "ERROR", None)
            raise
        return self._set(number, status, address)

    def _set(self, number, status, address):
        with self.database.writing() as db:
            db.execute("UPDATE instances SET status = ?, address = ? WHERE id = ?",
                       (status, address, number))
            return db.execute(INSTANCE + "WHERE id = ?", (number,)).fetchone()

    def instances(self, project):
        with self.database.reading() as db:
            return db.execute(INSTANCE + "WHERE project = ? ORDER BY id", (project,)).fetchall()

    def instance(self, project, identity):
        """By UUID or number.  NotFound."""
        with self.database.reading() as db:
            return self._instance(db, project, identity)

    def _instance(self, db, project, identity):
        found = db.execute(INSTANCE + "WHERE project = ? AND (uuid = ? OR id = ?)",
                           (project, identity, identity)).fetchone()
        if found is None:
            raise NotFound(f"There is no instance {identity}.")
        return found

    def terminate(self, project, identity):
        """Its volumes stay.  NotFound."""
        with self.database.writing() as db:
            instance = self._instance(db, project, identity)
            db.execute("DELETE FROM instances WHERE id = ?", (instance["id"],))
            return instance

    # -- their metadata ----------------------------------------------------------------------
    def describe(self, project, identity, metadata):
        """Add to what is known of an instance.  NotFound, BadRequest."""
        with self.database.writing() as db:
            instance = self._instance(db, project, identity)
            self._describe(db, instance["id"], metadata)
            return self._description(db, instance["id"])

    def description(self, project, identity):
        with self.database.reading() as db:
            return self._description(db, self._instance(db, project, identity)["id"])

    def of_itself(self, identity):
        """An instance and its metadata, for itself: by UUID, whatever its project.  NotFound."""
        with self.database.reading() as db:
            found = db.execute(INSTANCE + "WHERE uuid = ?", (identity,)).fetchone()
            if found is None:
                raise NotFound(f"There is no instance {identity}.")
            return found, self._description(db, found["id"])

    def _describe(self, db, number, metadata):
        if not isinstance(metadata, dict):
            raise BadRequest("Metadata must be an object whose values are texts.")
        for key, value in metadata.items():
            db.execute("INSERT OR REPLACE INTO metadata VALUES (?, ?, ?)",
                       (number, _text(key, "key"), _text(value, "value")))

    def _description(self, db, number):
        rows = db.execute("SELECT key, value FROM metadata WHERE instance = ? ORDER BY key",
                          (number,))
        return {row["key"]: row["value"] for row in rows}

    # -- volumes -----------------------------------------------------------------------------
    def create_volume(self, project, name, size):
        """The new volume of so many gigabytes.  BadRequest, OverQuota."""
        if type(size) is not int or size < 1:
            raise BadRequest("The size of a volume must be a whole number of gigabytes.")
        with self.database.writing() as db:
            if self._gigabytes(db, project) + size > self.most_gigabytes:
                raise OverQuota(f"All volumes of a project have {self.most_gigabytes} GB, and no "
                                "more.")
            number = db.execute(
                "INSERT INTO volumes (uuid, project, name, size) VALUES (?, ?, ?, ?)",
                (str(uuid.uuid4()), project, _text(name, "name"), size)).lastrowid
            return self._volume(db, project, number)

    def volumes(self, project):
        with self.database.reading() as db:
            return db.execute(VOLUME + "WHERE volumes.project = ? ORDER BY volumes.id",
                              (project,)).fetchall()

    def volume(self, project, identity):
        """By UUID or number.  NotFound."""
        with self.database.reading() as db:
            return self._volume(db, project, identity)

    def _volume(self, db, project, identity):
        found = db.execute(VOLUME + "WHERE volumes.project = ? "
                           "AND (volumes.uuid = ? OR volumes.id = ?)",
                           (project, identity, identity)).fetchone()
        if found is None:
            raise NotFound(f"There is no volume {identity}.")
        return found

    def delete_volume(self, project, identity):
        """NotFound, Conflict while it is attached."""
        with self.database.writing() as db:
            volume = self._volume(db, project, identity)
            if volume["server"]:
                raise Conflict(f"The volume {identity} is attached to {volume['server']}.")
            db.execute("DELETE FROM volumes WHERE id = ?", (volume["id"],))

    # -- attachments -------------------------------------------------------------------------
    def attach(self, project, identity, volume_identity, device):
        """The attached volume.  NotFound, Conflict if the volume or the device is in use."""
        with self.database.writing() as db:
            instance = self._instance(db, project, identity)
            volume = self._volume(db, project, _text(volume_identity, "volumeId"))
            _text(device, "device")
            taken = db.execute("SELECT 1 FROM attachments WHERE volume = ? "
                               "OR (instance = ? AND device = ?)",
                               (volume["id"], instance["id"], device)).fetchone()
            if taken:
                raise Conflict(f"The volume {volume_identity} or the device {device} is in use.")
            db.execute("INSERT INTO attachments VALUES (?, ?, ?)",
                       (volume["id"], instance["id"], device))
            return self._volume(db, project, volume["id"])

    def attached(self, project, identity):
        """The volumes of an instance.  NotFound."""
        with self.database.reading() as db:
            instance = self._instance(db, project, identity)
            return db.execute(VOLUME + "WHERE instance = ? ORDER BY device",
                              (instance["id"],)).fetchall()

    def detach(self, project, identity, volume_identity):
        """NotFound, also if the volume is attached elsewhere."""
        with self.database.writing() as db:
            instance = self._instance(db, project, identity)
            volume = self._volume(db, project, volume_identity)
            if volume["instance"] != instance["id"]:
                raise NotFound(f"The volume {volume_identity} is not attached to {identity}.")
            db.execute("DELETE FROM attachments WHERE volume = ?", (volume["id"],))

    # -- quotas ------------------------------------------------------------------------------
    def limits(self, project):
        with self.database.reading() as db:
            return {"maxTotalInstances": self.most_instances,
                    "totalInstancesUsed": self._instances(db, project),
                    "maxTotalVolumeGigabytes": self.most_gigabytes,
                    "totalGigabytesUsed": self._gigabytes(db, project)}

    def _instances(self, db, project):
        return db.execute("SELECT count(*) FROM instances WHERE project = ?",
                          (project,)).fetchone()[0]

    def _gigabytes(self, db, project):
        return db.execute("SELECT coalesce(sum(size), 0) FROM volumes WHERE project = ?",
                          (project,)).fetchone()[0]


def _text(text, what):
    """What may be a name, an id, a key or a value.  BadRequest."""
    if not isinstance(text, str) or not 0 < len(text) <= 255 or not text.isprintable():
        raise BadRequest(f"A {what} must be printable text of 1 to 255 characters.")
    return text

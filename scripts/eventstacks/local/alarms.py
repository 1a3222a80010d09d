"""AWS::CloudWatch::CompositeAlarm, which MiniStack's CloudFormation lacks; its CloudWatch has composite alarms.

CloudWatch rejects a composite alarm that names an alarm which does not exist.
"""

from typing import Any

from ministack.core.responses import get_account_id, get_region
from ministack.services import cloudwatch
from ministack.services.cloudformation import provisioners

from eventstacks.local.ministack import AwsError, Json
from eventstacks.local.resources import KNOWN, handlers


def put_composite_alarm(verb: str, name: str, props: Json) -> tuple[str, Json]:
    """Create, update or delete the alarm. ``Ref`` is its name."""
    if verb == "Delete":
        cloudwatch._delete_alarms({}, {"AlarmNames": [name]}, is_cbor=False, is_json=True)
        return name, {}
    alarm = {**props, "AlarmName": name}
    status, _, body = cloudwatch._put_composite_alarm({}, alarm, is_cbor=False, is_json=True)
    if status >= 400:
        raise AwsError(body.decode() if isinstance(body, bytes) else str(body))
    arn = f"arn:aws:cloudwatch:{get_region()}:{get_account_id()}:alarm:{name}"
    return name, {"Arn": arn}


KNOWN["AWS::CloudWatch::CompositeAlarm"] = handlers(put_composite_alarm, "AlarmName", 255)
replacing: dict[str, Any] = provisioners._REPLACING_PROPERTIES
replacing["AWS::CloudWatch::CompositeAlarm"] = ("AlarmName",)

"""More pictures than one run or one machine takes, as Parquet files in a folder, shard by shard.

done = predict_dataset("photos/", "convnext_tiny.fb_in1k", "answers", resume=True)
done = predict_dataset("s3://bucket/train-{000..119}.tar", "tiny.safetensors", "s3://bucket/answers",
                       runner="ray", room=Room("head:6379", workers=40))
"""

from convnext.scale.cluster import Room
from convnext.scale.running import Summary, predict_dataset
from convnext.scale.tables import TableColumns

__all__ = ["Room", "Summary", "TableColumns", "predict_dataset"]

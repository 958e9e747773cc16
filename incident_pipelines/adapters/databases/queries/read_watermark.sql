SELECT updated_before FROM landing.watermarks WHERE contract = :dataset
